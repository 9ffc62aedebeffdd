"""What a run says of itself: events, metrics, pictures of groups, trackers and signs of illness."""
