"""A model: layers over one flat parameter vector, and the rows that it is given."""
