"""One recipe a dataset: data only."""
