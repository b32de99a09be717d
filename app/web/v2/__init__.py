"""The Open Inference Protocol (V2), as Triton, KServe and MLServer speak it, and what resembles TF Serving."""
