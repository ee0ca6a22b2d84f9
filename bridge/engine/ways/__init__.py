"""What leads a program from inputs to outputs."""
