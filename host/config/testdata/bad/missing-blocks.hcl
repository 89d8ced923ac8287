telemetry {
  log_level = "info"
}
