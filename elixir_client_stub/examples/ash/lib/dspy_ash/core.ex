defmodule DSPyAsh.Core do
  @moduledoc """
  What DSPy is made of, as resources: signatures, modules, programs, optimizers and their runs.

  Everything is a row of this application. The daemon is a cache of these rows: an action sends the
  spec of what it uses before it uses it, so a daemon that was just restarted, or another node's,
  answers as the last one did.
  """

  use Ash.Domain, otp_app: :dspy_ash

  resources do
    resource DSPyAsh.Core.Signature do
      define :create_signature, action: :create
      define :compile_signature, action: :compile, args: [:signature_string]
      define :list_signatures, action: :read
    end

    resource DSPyAsh.Core.Module do
      define :create_module, action: :create
      define :get_module, action: :read, get_by: :id
      define :learn_module, action: :learn, args: [:state]
      define :forward, args: [:id, :inputs]
    end

    resource DSPyAsh.Core.Program do
      define :create_program, action: :create
      define :update_program, action: :update
      define :learn_program, action: :learn, args: [:compiled_state, :metrics]
      define :get_program, action: :read, get_by: :id
      define :execute, args: [:id, :inputs]
      define :evaluate, args: [:id, :devset, :metric]
    end

    resource DSPyAsh.Core.Optimizer do
      define :create_optimizer, action: :create
      define :get_optimizer, action: :read, get_by: :id
      define :compile, args: [:id, :program_id, :trainset, :metric]
    end

    resource DSPyAsh.Core.OptimizationRun do
      define :start_run, action: :start
      define :perform_run, action: :perform
      define :stop_run, action: :stop
      define :fail_run, action: :fail, args: [:error]
      define :get_run, action: :read, get_by: :id
      define :list_runs, action: :read
    end

    resource DSPyAsh.Core.Trace do
      define :list_traces, action: :read
    end
  end
end
