"""What `moos bench compress` needs besides Ray: corpora, contestants, ceilings, figures."""
