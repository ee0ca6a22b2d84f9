defmodule DSPyAsh.LM do
  @moduledoc "The language models that a tenant uses."

  use Ash.Domain, otp_app: :dspy_ash

  resources do
    resource DSPyAsh.LM.Provider do
      define :create_provider, action: :create
      define :list_providers, action: :read
      define :configure, args: [:id]
      define :generate, args: [:prompt]
      define :usage
    end
  end
end
