"""Labelled clips -> a recognizer -> a report of what the synthetic ones gained."""
