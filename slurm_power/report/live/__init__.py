"""Pictures of a span: traces and forecasts."""
