"""What every Thaw template shares: ordinary Keras and tf.data objects, each of use alone.

Import the module you need (`from runner import stages`); nothing heavy is imported here, so that
`python -m runner --help` answers at once.
"""
