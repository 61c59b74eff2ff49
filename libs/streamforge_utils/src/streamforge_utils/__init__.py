"""What every StreamForge worker stands on."""
