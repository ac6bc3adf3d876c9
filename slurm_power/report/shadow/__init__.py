"""What would have been saved and delayed while only watching."""
