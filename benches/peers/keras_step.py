"""One training step of Gyrus's default network in Keras on TensorFlow, on a CPU: prints {"step_ms": median} as one line of
JSON.

The layers, their order, the loss and the optimizer are those of `src/nn/unet.rs`, `src/ops/dice` and `src/ops/optimizer`
for the architecture conv3dtranspose_batchnormalization. Called by compare.py; needs tensorflow.
"""

import argparse
import json
import os
import statistics
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.keras import layers  # noqa: E402


def convolution(x, filters):
    return layers.Conv3D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)


def normalised(x):
    return layers.BatchNormalization()(x)


def network(extent, channels, classes, factor):
    down = [width // factor for width in (64, 128, 256, 512, 1024)]
    up = [width // factor for width in (32, 64, 128, 512)]
    image = x = tf.keras.Input((*extent, channels))
    skips = []
    for index, filters in enumerate(down):
        if index > 0:
            x = layers.MaxPooling3D(2)(x)
        activated = convolution(normalised(convolution(x, filters)), filters)
        x = normalised(activated)
        # Levels 1 to 3 hand on what came before the last normalisation.
        skips.append(activated if index < 3 else x)
    for index in reversed(range(4)):
        enlarged = layers.Conv3DTranspose(up[index], 2, strides=2, padding="same", kernel_initializer="he_normal")(x)
        x = layers.Concatenate()([skips[index], normalised(enlarged)])
        for _ in range(2):
            x = normalised(convolution(x, down[index]))
    x = normalised(convolution(x, 2))
    return tf.keras.Model(image, layers.Conv3D(classes, 1, activation="softmax")(x))


def log_dice(truth, p):
    axes = (0, 1, 2, 3)
    squares = tf.reduce_sum(tf.square(p), axes) + tf.reduce_sum(tf.square(truth), axes)
    dice = (2 * tf.reduce_sum(p * truth, axes) + 1e-7) / (squares + 1e-7)
    return tf.math.log(tf.cosh(1 - tf.reduce_mean(dice)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--extent", type=int, nargs=3, required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--factor", type=int, required=True)
    parser.add_argument("--precision", choices=("fp32",), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    tf.keras.utils.set_random_seed(0)
    model = network(options.extent, options.channels, options.classes, options.factor)
    model.compile(loss=log_dice, optimizer=tf.keras.optimizers.Adam(1e-4, clipvalue=50))
    random = np.random.default_rng(0)
    images = tf.constant(random.standard_normal((1, *options.extent, options.channels), dtype=np.float32))
    labels = random.integers(options.classes, size=(1, *options.extent))
    truth = tf.constant(np.eye(options.classes, dtype=np.float32)[labels])

    times = []
    for _ in range(options.steps + 3):
        start = time.perf_counter()
        model.train_on_batch(images, truth)
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"step_ms": statistics.median(times[3:]), "version": tf.__version__}))


if __name__ == "__main__":
    main()
