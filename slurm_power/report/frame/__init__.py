"""What all documents share: frame, style, figures."""
