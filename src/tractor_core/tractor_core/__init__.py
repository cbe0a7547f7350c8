"""What every part of the suite shares: contract, sensors, observation, samples. No ROS."""
