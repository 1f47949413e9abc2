"""Where records go. Every sink keeps the small protocol of `tracer.sinks.base.Sink`."""
