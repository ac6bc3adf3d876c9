"""The node daemon: reads the GPUs of one node, keeps leased caps on them, and answers the node's hooks."""
