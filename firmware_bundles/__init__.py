"""Firmware bundles: their format, and the tools that build, sign and publish them. Nothing here yet."""
