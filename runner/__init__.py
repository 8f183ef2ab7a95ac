"""What every Thaw template shares: ordinary Keras and tf.data objects, each of use alone.

Import the module you need (`from runner import stages`); nothing heavy is imported here, so that
`python -m runner --help` answers at once.
"""

import os

# TensorFlow reads this when it is imported. Its start-up notes (which processor instructions it could use,
# that there is no GPU) would bury a run's own lines; `python -m runner doctor` says what matters. Set it to
# 0 to see them all.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Keras reads this when it is imported, before ~/.keras/keras.json, which may name JAX or PyTorch for others.
os.environ["KERAS_BACKEND"] = "tensorflow"
