"""When plans are made, from which forecasts, terms and peaks."""
