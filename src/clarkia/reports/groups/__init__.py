"""The groups of metrics of protocol "clarkia-1", one file a group."""
