"""Golden packs: cases as files for any language, and judging answers from files."""
