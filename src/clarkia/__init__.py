"""Learn a distribution from your own data, then ask it anything."""
