"""`make demo`: real readings over real servers, with a cut link and a killed ingest, and an honest count."""
