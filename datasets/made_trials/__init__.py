"""The made_trials dataset: a large trial and four small ones, with the effects known."""
