"""The digits_plain dataset: scikit-learn's handwritten digits, dark on white."""
