"""How often Python looks at a run of the core, and how much it takes from it at a time."""

SLICE_SECONDS = 0.05
"""The core trains this long between two looks at Ctrl-C and the progress bar."""
PROGRESS_AFTER_SECONDS = 2.0
"""A run that ends before this shows no progress bar, so short runs do not even import tqdm."""
WINDOW = 65_536
"""Losses come from the core, and learning rates go to it, for so many epochs and steps at a time."""
MOST_EPOCHS = 10**12
"""Counters in the core have 64 bits, and steps are counted too."""
SNAPSHOT_SHARE = 0.002
"""Copies of the state may take this share of the time."""
