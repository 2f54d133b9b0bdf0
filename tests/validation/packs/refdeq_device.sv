// A device in real arithmetic, for 64-bit cases: what the bench expects of hardware, without any hardware.
module refdeq_device #(
    parameter K = 1, parameter N = 1, parameter BATCH = 1, parameter WIDTH = 64, parameter GE = 0, parameter ALWAYS = 0,
    parameter DENSE_START = 1, parameter BIAS = 1
) (
    input clock, input load, input start, input [31:0] sample,
    input [N*K*WIDTH-1:0] weight, input [N*WIDTH-1:0] bias, input [K*WIDTH-1:0] threshold,
    input [K*WIDTH-1:0] r_in, input [N*WIDTH-1:0] a_in, input [63:0] count_in, input [K*WIDTH-1:0] u,
    output reg done, output reg [K-1:0] mask, output reg [K*WIDTH-1:0] r, output reg [N*WIDTH-1:0] a,
    output reg [N*WIDTH-1:0] y
);
  reg [K*WIDTH-1:0] r_kept[0:BATCH-1];
  reg [N*WIDTH-1:0] a_kept[0:BATCH-1];
  reg [63:0] count[0:BATCH-1];
  reg [K*WIDTH-1:0] d;
  reg dense;
  real delta, size, tau, sum;
  integer i, j;
  always @(posedge clock) begin
    done <= 0;
    if (load) begin
      r_kept[sample] <= r_in;
      a_kept[sample] <= a_in;
      count[sample] <= count_in;
    end
    if (start) begin
      dense = DENSE_START && count[sample] == 0;
      r = r_kept[sample];
      a = a_kept[sample];
      for (j = 0; j < K; j = j + 1) begin
        delta = $bitstoreal(u[j*WIDTH+:WIDTH]) - $bitstoreal(r[j*WIDTH+:WIDTH]);
        size = delta < 0 ? -delta : delta;
        tau = $bitstoreal(threshold[j*WIDTH+:WIDTH]);
        mask[j] = dense || (GE ? !(size < tau) : !(size <= tau));
        d[j*WIDTH+:WIDTH] = dense ? u[j*WIDTH+:WIDTH] : $realtobits(delta);
        if (dense || ALWAYS || mask[j]) r[j*WIDTH+:WIDTH] = u[j*WIDTH+:WIDTH];
      end
      for (i = 0; i < N; i = i + 1) begin
        sum = dense ? 0.0 : $bitstoreal(a[i*WIDTH+:WIDTH]);
        for (j = 0; j < K; j = j + 1)
          if (mask[j]) sum = sum + $bitstoreal(weight[(i*K+j)*WIDTH+:WIDTH]) * $bitstoreal(d[j*WIDTH+:WIDTH]);
        a[i*WIDTH+:WIDTH] = $realtobits(sum);
        y[i*WIDTH+:WIDTH] = BIAS ? $realtobits(sum + $bitstoreal(bias[i*WIDTH+:WIDTH])) : $realtobits(sum);
      end
      r_kept[sample] = r;
      a_kept[sample] = a;
      count[sample] = count[sample] + 1;
      done <= 1;
    end
  end
endmodule
