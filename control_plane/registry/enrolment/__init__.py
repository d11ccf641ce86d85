"""Enrolment: how a gateway gets its identity by one line, and devices behind it get theirs."""
