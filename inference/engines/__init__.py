"""The engines that turn feature rows into logits, behind one small interface."""
