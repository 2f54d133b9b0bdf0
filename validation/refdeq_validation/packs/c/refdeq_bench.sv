// refdeq_bench.sv - runs one case of a pack on a device and ends in $fatal unless every bit is right.
//
// The device is a module `refdeq_device` of your own, with the parameters and ports used below. Per case the bench gives weights,
// bias and thresholds, loads the state of every sample (`load`), then asks for one step of one sample at a time: it holds `u`
// and `sample`, raises `start` for one clock, and waits for `done`, with all outputs valid in that clock.
//
// Comparisons use ===, so that X and Z never match; a number that holds an X or Z is a failure of its own; a run that compared
// nothing, or whose memories were not read, fails. Bits of numbers are IEEE 754.
//
//   iverilog -g2012 -o run -s case_0000 case_0000.sv refdeq_bench.sv your_device.sv && vvp run      (in the folder hex/)

`timescale 1ns / 1ps

module refdeq_bench #(
    parameter K = 1,             // inputs of a sample
    parameter N = 1,             // outputs of a sample
    parameter BATCH = 1,
    parameter STEPS = 1,
    parameter WIDTH = 32,        // bits of a number
    parameter GE = 0,            // D-2: 1 sends |delta| >= tau, 0 sends |delta| > tau; NaN is always sent
    parameter ALWAYS = 0,        // D-4: 1 takes every u as reference, 0 only what was sent
    parameter DENSE_START = 1,   // D-5
    parameter BIAS = 1,          // 0: there is none
    parameter VALUES = 1,        // compare accumulators and outputs bit by bit
    parameter FOLDER = "case_0000",
    parameter TIMEOUT = 1000000  // clocks that one step may take
);
  reg [WIDTH-1:0] weight[0:N*K-1];       // row i: weights of output i
  reg [WIDTH-1:0] bias[0:(BIAS ? N : 1)-1];
  reg [WIDTH-1:0] threshold[0:K-1];
  reg [WIDTH-1:0] r0[0:BATCH*K-1];
  reg [WIDTH-1:0] a0[0:BATCH*N-1];
  reg [63:0] count0[0:BATCH-1];
  reg [WIDTH-1:0] u_all[0:STEPS*BATCH*K-1];
  reg mask_all[0:STEPS*BATCH*K-1];
  reg [WIDTH-1:0] r_all[0:STEPS*BATCH*K-1];
  reg [WIDTH-1:0] a_all[0:STEPS*BATCH*N-1];
  reg [WIDTH-1:0] y_all[0:STEPS*BATCH*N-1];

  reg clock = 0, load = 0, start = 0;
  reg [31:0] sample = 0;
  reg [K*WIDTH-1:0] u, tau, r_in;
  reg [N*WIDTH-1:0] a_in, b;
  reg [N*K*WIDTH-1:0] w;
  reg [63:0] count_in;
  wire done;
  wire [K-1:0] mask;
  wire [K*WIDTH-1:0] r;
  wire [N*WIDTH-1:0] a, y;

  integer compared = 0, failed = 0, waited = 0, t, s, i;

  always #5 clock = ~clock;

  refdeq_device #(
      .K(K), .N(N), .BATCH(BATCH), .WIDTH(WIDTH), .GE(GE), .ALWAYS(ALWAYS), .DENSE_START(DENSE_START), .BIAS(BIAS)
  ) device (
      .clock(clock), .load(load), .start(start), .sample(sample), .weight(w), .bias(b), .threshold(tau),
      .r_in(r_in), .a_in(a_in), .count_in(count_in), .u(u), .done(done), .mask(mask), .r(r), .a(a), .y(y)
  );

  // One bit of a mask.
  task automatic check_bit(input integer at, input expected, input actual);
    begin
      compared = compared + 1;
      if (expected === 1'bx || !(actual === expected)) begin
        failed = failed + 1;
        if (failed <= 10) $display("mask[%0d] of step %0d, sample %0d: expected %b, got %b", at, t, s, expected, actual);
      end
    end
  endtask

  // One number: bits, except that every NaN equals every NaN; X and Z never match.
  task automatic check(input [8*4-1:0] name, input integer at, input [WIDTH-1:0] expected, input [WIDTH-1:0] actual);
    begin
      compared = compared + 1;
      if (^expected === 1'bx || ^actual === 1'bx || !(actual === expected || (is_nan(expected) && is_nan(actual)))) begin
        failed = failed + 1;
        if (failed <= 10)
          $display("%0s[%0d] of step %0d, sample %0d: expected %h, got %h", name, at, t, s, expected, actual);
      end
    end
  endtask

  function automatic is_nan(input [WIDTH-1:0] bits);
    if (WIDTH == 32) is_nan = (&bits[30:23]) && (|bits[22:0]);
    else is_nan = (&bits[WIDTH-2:WIDTH-12]) && (|bits[WIDTH-13:0]);
  endfunction

  initial begin
    $readmemh({FOLDER, "/weight.hex"}, weight);
    $readmemh({FOLDER, "/bias.hex"}, bias);
    $readmemh({FOLDER, "/threshold.hex"}, threshold);
    $readmemh({FOLDER, "/r0.hex"}, r0);
    $readmemh({FOLDER, "/a0.hex"}, a0);
    $readmemh({FOLDER, "/count0.hex"}, count0);
    $readmemh({FOLDER, "/u.hex"}, u_all);
    $readmemh({FOLDER, "/mask.hex"}, mask_all);
    $readmemh({FOLDER, "/r.hex"}, r_all);
    $readmemh({FOLDER, "/a.hex"}, a_all);
    $readmemh({FOLDER, "/y.hex"}, y_all);
    for (i = 0; i < N * K; i = i + 1) w[i*WIDTH+:WIDTH] = weight[i];
    for (i = 0; i < N; i = i + 1) b[i*WIDTH+:WIDTH] = BIAS ? bias[i] : {WIDTH{1'b0}};
    for (i = 0; i < K; i = i + 1) tau[i*WIDTH+:WIDTH] = threshold[i];
    for (s = 0; s < BATCH; s = s + 1) begin
      @(negedge clock);
      sample = s;
      count_in = count0[s];
      for (i = 0; i < K; i = i + 1) r_in[i*WIDTH+:WIDTH] = r0[s*K+i];
      for (i = 0; i < N; i = i + 1) a_in[i*WIDTH+:WIDTH] = a0[s*N+i];
      load = 1;
      @(negedge clock);
      load = 0;
    end
    for (t = 0; t < STEPS; t = t + 1)
      for (s = 0; s < BATCH; s = s + 1) begin
        @(negedge clock);
        sample = s;
        for (i = 0; i < K; i = i + 1) u[i*WIDTH+:WIDTH] = u_all[(t*BATCH+s)*K+i];
        start = 1;
        @(negedge clock);
        start = 0;
        waited = 0;
        while (done !== 1'b1 && waited < TIMEOUT) begin
          @(negedge clock);
          waited = waited + 1;
        end
        if (done !== 1'b1) $fatal(1, "no answer to step %0d, sample %0d", t, s);
        for (i = 0; i < K; i = i + 1) begin
          check_bit(i, mask_all[(t*BATCH+s)*K+i], mask[i]);
          check("r", i, r_all[(t*BATCH+s)*K+i], r[i*WIDTH+:WIDTH]);
        end
        for (i = 0; VALUES && i < N; i = i + 1) begin
          check("a", i, a_all[(t*BATCH+s)*N+i], a[i*WIDTH+:WIDTH]);
          check("y", i, y_all[(t*BATCH+s)*N+i], y[i*WIDTH+:WIDTH]);
        end
      end
    if (failed != 0) $fatal(1, "FAILED %0s: %0d of %0d comparisons", FOLDER, failed, compared);
    if (compared == 0) $fatal(1, "FAILED %0s: nothing was compared", FOLDER);
    $display("PASSED %0s: %0d comparisons", FOLDER, compared);
    $finish;
  end
endmodule
