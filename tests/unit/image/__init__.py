"""What lays out, reads and weighs an image, without building one."""
