"""How a language model is run over many texts: no shared token computed twice, no padding."""
