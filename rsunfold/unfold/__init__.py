"""What unrolled networks share: stages that can be recorded, learned operators, proximal operators."""
