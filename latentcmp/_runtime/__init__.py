"""Machine-specific code without chemistry: native library, backends, devices, files, progress, processes."""
