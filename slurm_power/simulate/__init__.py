"""Plant physics: GPUs, hosts, racks, PCS and battery as functions of the time passed in. No clock, no I/O."""
