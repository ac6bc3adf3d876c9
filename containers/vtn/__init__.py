"""Small VTNs of a test bed: what a utility runs at the other end of OpenADR."""
