dataplane "d" {
  data_dir =
}
