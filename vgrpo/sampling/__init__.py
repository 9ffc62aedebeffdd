"""Pictures from a policy, for training and for evaluation."""
