"""Given source at work: programs, metrics, rewards and tools, in processes that can do nothing."""
