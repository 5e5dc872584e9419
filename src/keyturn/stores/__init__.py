"""Secret stores: where credentials live, behind one port."""
