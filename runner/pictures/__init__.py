"""Pictures with labels, boxes or masks: found, decoded, checked, made square and into batches."""
