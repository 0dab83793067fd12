"""What everything else stands on: types, training state, checks, atomic writes, guard, interrupts, threads, text."""
