"""Splits the UCI handwritten digits, which scikit-learn brings along, into a training and a test set."""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main() -> None:
    """Write `train.npz` and `test.npz`, each with `images` (pixels from 0 to 1) and `labels`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--test_fraction", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=arguments.test_fraction, stratify=labels, random_state=arguments.seed
    )
    arguments.data.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.data / "train.npz", images=train_images, labels=train_labels)
    np.savez_compressed(arguments.data / "test.npz", images=test_images, labels=test_labels)
    print(f"{len(train_labels)} images to train on, {len(test_labels)} to test on, of {images.shape[1]} pixels each")


if __name__ == "__main__":
    main()
