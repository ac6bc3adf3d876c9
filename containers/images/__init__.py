"""The lab in container images: their configuration, from the templates of the lab of plain processes."""
