"""Measures a trained network on images that it has never seen."""

import argparse
import json
from pathlib import Path

import joblib
import numpy as np


def main() -> None:
    """Write `metrics.json`, and print the accuracy as the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    arguments = parser.parse_args()

    with np.load(arguments.data / "test.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    right = joblib.load(arguments.model / "model.joblib").predict(images) == labels
    metrics = {
        "accuracy": float(right.mean()),
        "accuracy_by_digit": {str(digit): float(right[labels == digit].mean()) for digit in range(10)},
        "images": len(labels),
    }
    arguments.metrics.mkdir(parents=True, exist_ok=True)
    (arguments.metrics / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    for digit, accuracy in metrics["accuracy_by_digit"].items():
        print(f"{digit}: {accuracy:6.1%} {'#' * round(40 * accuracy)}")
    print(f"accuracy: {metrics['accuracy']:.4f}")


if __name__ == "__main__":
    main()
