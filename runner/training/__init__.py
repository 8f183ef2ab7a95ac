"""Training through stages: fit, ledger, frozen prefix, resume; it knows batches and no pictures."""
