"""What is measured, and how: workloads, baselines, interleaved timing, the goals, and the command ``refdeq bench``.

`measuring` times contenders by turns and says how noisy the machine is; `workloads` builds inputs and contenders whose results
are checked before anything is timed; `baselines` are the dense paths to beat; `goals` are P1 to P11 as data.
"""
