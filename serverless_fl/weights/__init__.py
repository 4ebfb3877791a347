"""Files of weights (safetensors): headers, values, spans, checks, encodings.

`header` reads and writes headers, and `codec` converts values. `spans` cuts a model into runs of
values, `check` judges an upload, and `encodings` and `deltas` hold the compressed forms.
"""
