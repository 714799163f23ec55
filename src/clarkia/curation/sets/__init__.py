"""Distribution embeddings: one vector a set of points, by which the set's law can be compared and sampled."""
