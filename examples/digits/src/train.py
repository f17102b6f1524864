"""Trains a network with one hidden layer, epoch by epoch."""

import argparse
from pathlib import Path

import joblib
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def main() -> None:
    """Write `model.joblib`, the trained network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--hidden", type=int, required=True)
    parser.add_argument("--learning_rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True)
    arguments = parser.parse_args()

    with np.load(arguments.data / "train.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    images, validation_images, labels, validation_labels = train_test_split(
        images, labels, test_size=0.1, stratify=labels, random_state=arguments.seed
    )
    network = MLPClassifier(
        hidden_layer_sizes=(arguments.hidden,),
        learning_rate_init=arguments.learning_rate,
        batch_size=min(32, len(images)),
        random_state=arguments.seed,
    )
    for epoch in range(1, arguments.epochs + 1):
        network.partial_fit(images, labels, classes=range(10))
        accuracy = network.score(validation_images, validation_labels)
        print(f"epoch {epoch:3} of {arguments.epochs}  loss {network.loss_:.4f}  validation accuracy {accuracy:.3f}")
    arguments.model.mkdir(parents=True, exist_ok=True)
    joblib.dump(network, arguments.model / "model.joblib")


if __name__ == "__main__":
    main()
