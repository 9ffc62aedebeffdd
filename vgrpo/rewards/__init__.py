"""Rewards: functions (images [B, 3, H, W] in [0, 1], prompts) -> [B]. Named ones live here, one file each."""
