"""Our own forward of BERT, XLM-RoBERTa and MPNet encoders: no padding, and on the CPU no torch.

`architecture` says once what is computed. ONNX Runtime runs a graph that the builder writes from
it; torch runs the definition itself on MPS and CUDA.
"""
