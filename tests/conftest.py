"""Fixtures for all tests; those of real servers are in tests/stack."""
