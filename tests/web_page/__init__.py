"""The dashboard's page in a real browser, against a small server that speaks the HTTP interface."""
